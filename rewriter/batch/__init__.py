"""Files of prompts in, better prompts out: streamed, resumable, each prompt once."""
