// TON's emulator as @ton/sandbox carries it: one transaction for each line of JSON on stdin.
const { Cell } = require("@ton/core");
const { Executor } = require("@ton/sandbox");
const readline = require("node:readline");

async function main() {
  const executor = await Executor.create();
  // Not before: lines that nobody waits for are lost.
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { config, account, message, now, lt, seed } = JSON.parse(line);
    const { result } = await executor.runTransaction({
      config,
      libs: null,
      verbosity: "short",
      shardAccount: account,
      message: Cell.fromBase64(message),
      now,
      lt: BigInt(lt),
      randomSeed: Buffer.from(seed, "hex"),
      ignoreChksig: false,
      debugEnabled: false,
    });
    console.log(JSON.stringify(result));
  }
}

main();
