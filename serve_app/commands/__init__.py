"""The commands of ``rs-embed``: each adds its arguments to the parser and yields the lines that it says."""
