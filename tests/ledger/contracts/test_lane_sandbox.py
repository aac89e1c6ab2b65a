"""The lane on a second build of TON's machine, newer than tonpy's: that of the npm package
`@ton/sandbox`. Every case holds there, and a life ends with the same bytes.

Run where Node finds it: `npm install --prefix DIR @ton/sandbox @ton/core @ton/crypto`, then
`NODE_PATH=DIR/node_modules`.
"""

import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from pytoniq_core import Cell

from ledger.chain.boc import write_boc
from ledger.chain.engine import Done, Refused
from ledger.contracts import cells
from tests.ledger.contracts import world
from tests.ledger.contracts.cases import CASES
from tests.ledger.contracts.world import DAY, STRANGER, TON, World

SCRIPT = Path(__file__).with_name("sandbox.js")
NODE = shutil.which("node")


def present():
    """Whether Node is there and finds the package."""
    command = [NODE or "", "-e", "require.resolve('@ton/sandbox')"]
    return NODE is not None and subprocess.run(command, capture_output=True).returncode == 0


if not present():
    pytest.skip("needs Node and @ton/sandbox", allow_module_level=True)

pytestmark = pytest.mark.outside


class Sandbox:
    """What `Engine.transact` does, by the other emulator."""

    def __init__(self, process, config):
        self._process = process
        self._config = config

    def transact(self, shard_account, message, *, now, lt, seed):
        task = {
            "config": text(self._config),
            "account": text(shard_account),
            "message": text(message),
            "now": now,
            "lt": str(lt),
            "seed": seed.hex(),
        }
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        result = json.loads(self._process.stdout.readline())
        if result["success"]:
            done = b64decode(result["shardAccount"]), b64decode(result["transaction"])
            return Done(account_boc=done[0], transaction_boc=done[1])
        ran = result.get("vmResults")
        return Refused(exit_code=ran and ran["vmExitCode"], log=result["error"])


def text(cell):
    return b64encode(write_boc([cell]) if isinstance(cell, Cell) else cell).decode()


@pytest.fixture(scope="module")
def process():
    with subprocess.Popen(
        [NODE, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def sandbox(process, monkeypatch):
    def engine(config=None):
        return Sandbox(process, config or world.mainnet_config())

    monkeypatch.setattr(world, "engine", engine)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_lane(sandbox, case):
    case(cells.CODE)


def life():
    w = World().open(TON)
    w.claim(TON // 4)
    w.claim(TON // 8)
    w.claim_for(TON // 3)
    w.start_close()
    w.now += DAY
    w.claim(TON // 2)
    w.send(STRANGER, TON, cells.top_up_body())
    w.close(3 * TON // 4)
    return [bytes(transaction.hash) for transaction in w.transactions]


def test_both_machines_make_the_same_transactions(request):
    ours = life()
    request.getfixturevalue("sandbox")
    assert life() == ours
