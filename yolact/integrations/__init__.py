"""These kernels in other people's programs: one module a library, to call or to accelerate the library in place::

    import yolact.integrations.ultralytics

    with yolact.integrations.ultralytics.accelerated():
        ...  # the installed library, its results as before, sooner

`accelerate()` does the same until `restore()` of what it returns. Either way it holds for the whole process: other
threads see it too, from their next call on. Both may be nested, in any order. Where a function is missing, or
Ultralytics makes other masks of a small case than the known releases, nothing is changed and a UserError names the
version. What the kernels do not take (float64, another kind of device) goes the library's own way.
"""
