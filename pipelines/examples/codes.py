"""Binary codes: a constraint that backpropagation cannot train through.

All that the upper half of the network sees of a digit is 16 bits, the signs of the lower half's
outputs.  The derivative of a sign is zero, so backpropagation leaves the lower half as it was
drawn: only the upper half learns to read random codes.  Block-ADMM asks the lower half for codes
that the upper half can use, and projects them onto bits.

    python pipelines/examples/codes.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dadmm import ADMMClassifier, BlockADMM
from dadmm.networks.chain import Chain

BITS = 16


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    options = {"activation": "tanh", "max_iter": 60, "standardize": "global", "random_state": 0}
    coded = ADMMClassifier(
        hidden_layer_sizes=(128, BITS, 128),
        solver=BlockADMM(blocks=[3], constraints="binary", rho=0.1),
        **options,
    ).fit(x_train, y_train)
    random = random_codes(coded)
    reader = ADMMClassifier(hidden_layer_sizes=(128,), **options)
    reader.fit(random(x_train), y_train)
    free = ADMMClassifier(hidden_layer_sizes=(128, BITS, 128), **options).fit(x_train, y_train)
    scores = {
        "codes trained by Block-ADMM": coded.score(x_test, y_test),
        "codes as drawn, all that backpropagation has": reader.score(random(x_test), y_test),
        f"{BITS} real numbers instead of bits": free.score(x_test, y_test),
    }
    print(f"digits through {BITS} bits, test accuracy")
    for name, score in scores.items():
        print(f"  {name:<46}{score:.4f}")


def random_codes(model):
    """Return what maps inputs to the codes of the network as it was before training."""
    chain: Chain = model.network_.architecture
    start = chain.initial(seed=0)

    def codes(x):
        v = model.network_.inputs.apply(x, np.float32)
        for i in (1, 2):
            v = np.tanh(v @ start[f"w_{i}"] + start[f"b_{i}"])
        return np.where(v < 0, -1.0, 1.0)

    return codes


if __name__ == "__main__":
    main()
