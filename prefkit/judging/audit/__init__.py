"""Whether a judge's verdicts follow anything but merit: order, length, its own family, and what it leaves out."""
