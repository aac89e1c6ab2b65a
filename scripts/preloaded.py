"""What the parties of a network import; `forked` has it loaded once, before they are."""

import gc
from contextlib import suppress

from scripts import daemon as daemon
from scripts import recorder as recorder

with suppress(ImportError):  # not everybody has TON's machine
    from ledger.chain import embedded as embedded
    from ledger.chain import face as face

gc.freeze()  # it stays for good, in pages that all share
