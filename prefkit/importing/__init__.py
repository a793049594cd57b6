"""Import prompts, responses and judgements from files of other tools."""
