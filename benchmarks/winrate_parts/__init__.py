"""Parts of the proof of win rates, each of which runs by itself."""
