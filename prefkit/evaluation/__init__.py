"""How good policies are: who was preferred to whom, how often, and how sure that is."""
