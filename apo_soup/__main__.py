"""`python -m apo_soup`: see apo_soup/cli/app.py."""

from apo_soup.cli.app import main

main()
