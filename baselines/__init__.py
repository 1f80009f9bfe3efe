"""Reference models for metaevents' benchmark. None is in this release; the floor methods are in `metaevents.benchmark.floors`."""
