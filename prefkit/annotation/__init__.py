"""People judge: what they are shown, and what they answered."""
