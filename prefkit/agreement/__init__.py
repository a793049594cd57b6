"""Whether annotators agree: people with people, judges with people, each with themselves."""
