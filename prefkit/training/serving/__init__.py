"""A reward model over HTTP, with the requests and answers of vLLM's servers, so that their clients find what they know.

server.py     listens, asks for the key, stops
answers.py    what each address answers
desk.py       what waits, read together
"""
