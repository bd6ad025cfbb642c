"""How a run is shown: live on a terminal, and afterwards as one HTML file."""
