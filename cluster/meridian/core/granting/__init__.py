"""Strict limits, the pure part: who may spend how much of a limit, so that all together never admit above R*W + B.

The words: a limit is cut into **seats** (who sits is in the store) and each seat into **slices**, one per worker. A
**spender** is one worker for one limit; its **own** tokens are those of its slices. What it may hold at once for a key
is its **cap**: own tokens, less what it **lent** and withholds, plus what it **holds** of others' loans.

Modules in reading order: `shares` (the cut), `messages` (between spenders), `account` (one key that is short or lent),
`lending` (whom to ask, what to give), `tables` (all other keys), `spender` (one worker), `seats` and `allocation` (the
agent).

Why the bound holds. Let L be the sum of all levels of a key, and the caps' sum be at most B at every moment (each
module's head says what keeps its part of that). A level is never above its cap and rises only by accrual, at a rate
that by true time sums to at most R. So in any window admitted = fall of L + accrued <= B + R*W.
"""
