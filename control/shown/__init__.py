"""How records are shown, as JSON and in words: the same by the command line, the REST API and the console.

No HTML and no terminal is known here: values are as they are, and whoever writes them out escapes what has to be.
"""
