"""Preference pairs and reward models to policies: trained, sampled, looked at, measured, handed out.

What is trained
    policy_data.py  settings.py                              what is read, and the choices
    logprobs.py  reference.py  losses.py                     what a model says of responses, and pairs of it
    policy_trainer.py  training.py  finishing.py             train-policy
    watching.py  looking.py  health.py                       looks on the way; whether it still writes sense
    course.py  curves.py  policy_card.py                     the same in words, in pictures, on a card
In rounds
    rounds.py  round_settings.py  round_files.py             iterate
    round_prompts.py  round_answers.py  choosing.py          who is asked, what is answered and rewarded, which pairs
    round_measuring.py  round_evaluation.py                  what a round came to
What it says
    opening.py  templates.py  sampling.py  cache.py          answers, many at a time
    suites.py  knowledge.py                                  bench: questions with options
    talking.py  conversation.py  voting.py                   chat, and votes
What leaves
    merging.py  exporting.py  export_card.py                 export: one folder in safetensors
    gguf_files.py  gguf_script.py  modelfile.py  alike.py    GGUF, Ollama, and whether the file says the same
"""
