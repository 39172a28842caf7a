"""The parser of every command's flags and arguments."""

import argparse
from typing import NoReturn

from data.errors import UserError


class CommandLineParser(argparse.ArgumentParser):
    """Tells a mistake as every other one is told: in one line, without the usage, which hides it in a terminal."""

    def error(self, message: str) -> NoReturn:
        """Ends the parsing.

        Raises:
            UserError: always.
        """
        raise UserError(f"{' '.join(message.split())}; see --help")  # A value may hold line breaks.
