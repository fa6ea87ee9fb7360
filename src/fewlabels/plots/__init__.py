"""Charts as inline SVG, in colours that follow the page's light or dark theme."""
