"""An instance of a JSON Schema, made up from a seed: the smallest one that the common keywords allow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from claude_force.simulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claude_force.simulator.draws import Draws

# One value of a schema, as JSON has them.
Json: TypeAlias = Any

# A schema may refer to itself; deeper than this, what is optional is left out.
MAX_DEPTH: Final = 5
_DEEPEST: Final = 64
MAX_VALUES: Final = 20_000
MAX_STRING_CHARACTERS: Final = 100_000

_FORMATS: Final[Mapping[str, str]] = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T22:00:00Z",
    "time": "22:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "simulated.example.com",
}


class SchemaInstance:
    """Makes one value for one schema. The same schema and draws give the same value."""

    def __init__(self, root: Mapping[str, Json], draws: Draws) -> None:
        self._root = root
        self._draws = draws
        self._values = 0

    def make(self) -> Json:
        """The value. A schema that is no schema, or asks for too much, is a 400."""
        try:
            return self._value(self._root, "$", 0)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as exc:
            raise ApiError(400, f"schema: not a JSON Schema that is supported: {exc}") from exc

    def _value(self, schema: Json, path: str, depth: int) -> Json:
        self._values += 1
        if self._values > MAX_VALUES:
            raise ApiError(400, "schema: too complex")
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return "simulated"
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._draws.between(path, 0, len(schema["enum"]) - 1)]
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return self._value(_merged(schema, [schema[word][0]], word), path, depth + 1)
        if schema.get("allOf"):
            return self._value(_merged(schema, schema["allOf"], "allOf"), path, depth + 1)
        return self._makers[_type_of(schema)](self, schema, path, depth)

    def _resolved(self, schema: Mapping[str, Json]) -> Mapping[str, Json]:
        for _ in range(_DEEPEST):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                break
            target: Json = self._root
            for part in reference[1:].split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                target = target.get(key, {}) if isinstance(target, dict) else {}
            others = {name: value for name, value in schema.items() if name != "$ref"}
            schema = {**target, **others} if isinstance(target, dict) else others
        return schema

    def _object(self, schema: Mapping[str, Json], path: str, depth: int) -> Json:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not all(isinstance(name, str) for name in required):
            raise TypeError("`required` is a list of names")
        names = [name for name in properties if depth < MAX_DEPTH or name in required]
        names += [name for name in required if name not in properties]
        return {
            name: self._value(properties.get(name, {}), f"{path}.{name}", depth + 1)
            for name in names
        }

    def _array(self, schema: Mapping[str, Json], path: str, depth: int) -> Json:
        low = schema.get("minItems", 0)
        high = schema.get("maxItems", max(low, 2))
        wanted = low if depth >= MAX_DEPTH else max(low, min(high, 2))
        prefix = schema.get("prefixItems", [])
        items = schema.get("items", {})
        return [
            self._value(prefix[i] if i < len(prefix) else items, f"{path}[{i}]", depth + 1)
            for i in range(wanted)
        ]

    def _string(self, schema: Mapping[str, Json], path: str, _depth: int) -> Json:
        text = _FORMATS.get(schema.get("format", ""))
        if text is None:
            text = f"simulated {path.rpartition('.')[2].strip('$')}".strip()
        # What pads a text that is too short is as plain as the text.
        text = text.ljust(min(schema.get("minLength", 0), MAX_STRING_CHARACTERS), ".")
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: Mapping[str, Json], path: str, _depth: int) -> Json:
        low, high = _bounds(schema, 1)
        step = schema.get("multipleOf", 1)
        first = math.ceil(low / step)
        last = max(first, math.floor(high / step))
        return int(self._draws.between(path, first, last) * step)

    def _number(self, schema: Mapping[str, Json], path: str, _depth: int) -> Json:
        if "multipleOf" in schema:
            low, high = _bounds(schema, 0)
            step = schema["multipleOf"]
            return math.ceil(low / step) * step if high >= low else low
        low, high = _bounds(schema, 0)
        # From the middle half: a bound may be exclusive.
        value = low + (high - low) * (0.25 + self._draws.uniform(path) / 2)
        short = round(value, 3)
        return short if low < short < high else value

    def _boolean(self, _schema: Mapping[str, Json], path: str, _depth: int) -> Json:
        return self._draws.uniform(path) < 0.5

    def _null(self, _schema: Mapping[str, Json], _path: str, _depth: int) -> Json:
        return None

    _makers: Final[Mapping[str, Callable[[SchemaInstance, Mapping[str, Json], str, int], Json]]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
        "null": _null,
    }


def _type_of(schema: Mapping[str, Json]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str) and kind in SchemaInstance._makers:  # noqa: SLF001  # the table of this module
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def _merged(schema: Mapping[str, Json], parts: list[Json], word: str) -> dict[str, Json]:
    merged = {name: value for name, value in schema.items() if name != word}
    for part in parts:
        if not isinstance(part, dict):
            continue
        for name, value in part.items():
            if name == "properties":
                merged[name] = {**merged.get(name, {}), **value}
            elif name == "required":
                merged[name] = [*merged.get(name, []), *value]
            else:
                merged[name] = value
    return merged


def _bounds(schema: Mapping[str, Json], nudge: int) -> tuple[float, float]:
    """The inclusive bounds; an exclusive one is moved inwards by ``nudge``."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if (over := schema.get("exclusiveMinimum")) is not None:
        low = over + nudge if low is None else max(low, over + nudge)
    if (under := schema.get("exclusiveMaximum")) is not None:
        high = under - nudge if high is None else min(high, under - nudge)
    if low is None:
        low = min(0, high) if high is not None else 0
    return low, low + 100 if high is None else high
