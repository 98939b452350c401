"""What is made to be looked at in a browser: templates that escape every value, drawings as SVG, charts."""
