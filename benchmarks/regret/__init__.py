"""How far a suggested learning rate is from the best one: `python -m benchmarks.regret --help`.

The *oracle* trains each task with 1cycle at a dense grid of maximum rates. The *sweeps* are range tests
of the same tasks. A *rule* reads a rate off a sweep, and its *regret* is what training at that rate loses
against the oracle's best. Oracle and sweeps are kept as JSON, so that any rule can be judged without
training again.
"""
