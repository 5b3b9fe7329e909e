"""A page that shows slides: tiles cut by OpenSlide, a server for this machine alone, the page around it."""
