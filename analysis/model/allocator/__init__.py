"""The page allocator, from a request to the very page: an executable specification.

``Allocator`` is the whole (zones, zonelists, attempts); ``zone`` one zone's lists and counters,
``pcp`` the per-cpu lists, ``fallback`` what happens when a type's own lists are empty,
``watermark`` who may have what is left, ``gfp`` the flags. Rules that differ between releases ask
``analysis.model.eras``.
"""
