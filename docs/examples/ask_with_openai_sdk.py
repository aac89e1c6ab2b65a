"""Asks through a running node with OpenAI's own SDK, and shows what came back with the answer.

    OPENAI_BASE_URL=http://127.0.0.1:8420/v1 OPENAI_API_KEY=$(tussah key api) \\
        python ask_with_openai_sdk.py "Name three moths."
"""

import sys

import openai


def main(question: str) -> None:
    """Stream an answer to standard output; what it cost and hid goes to standard error."""
    stream = openai.OpenAI().chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": question}],
        max_tokens=60,
        stream=True,
        # What OpenAI has no words for: refuse dearer offers before the question leaves.
        extra_body={"tussah": {"max_price_nano": 20_000_000}},
    )
    told = None
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            sys.stdout.write(chunk.choices[0].delta.content)
            sys.stdout.flush()
        told = (chunk.model_extra or {}).get("tussah") or told
    sys.stdout.write("\n")
    if told:
        cost, privacy = told["cost"], told["privacy"]
        sys.stderr.write(
            f"{cost['paid_nano']} nano paid; {privacy['relays']} relays, "
            f"one of {privacy['slots']} workers; {privacy['readable_by']} read the question\n"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "Name three moths.")
