"""The page allocator once more, compiled: ``analysis.model.allocator`` over flat arrays.

The plain package is the text to read; here every rule has the same name and the same order of
effects, and property tests hold the two against each other. ``layout`` says where what lies,
``pack`` makes the arrays from a plain model; ``lists``, ``zone``, ``fallback``, ``watermark``,
``pcp`` and ``allocator`` mirror their plain namesakes.

The functions are compiled where they are called from. Callers cache what they compile, under the
digest of ``sources``, since numba by itself does not notice when a called function changes.
"""
