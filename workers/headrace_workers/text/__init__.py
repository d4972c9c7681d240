"""Words: what a text says in words, tokens, numbers, units and dates. Pure; English where a language matters."""
