"""Authoritative DNS that steers: a library that knows DNS, and neither Meridian nor etcd.

The words, each with one meaning:

- name: a domain name in wire form, lower case, uncompressed (`names`).
- record set: the records of one owner and type; *steered* if its addresses are chosen for each client.
- zone: one origin and all names below it that we answer for; zone set: the zones of this server (`zone`).
- region, member: where addresses stand, and whose they are; region view: all of them at one version (`view`).
- client: whom an answer is for: the resolver's address, or the client subnet it passed on (RFC 7871).
- scope: how many bits of the client's address the answer depends on.
- draw: the chance in one answer, given from outside: equal draws give equal answers.
- plan: what a zone says to a question, before client and view are known (`policy`).
- order, offer, choice: a client's order of regions, what each has to give, and what is answered of it (`steering`).
- secondary: another server that has a copy of a zone, by transfer (`transfer`); notice: what it is told of a change.
- copy, change, history: what a secondary gets, what leads from one copy to the next, and how far that is known.
- key, signature: a secret shared with a secondary, and what proves a message by it (`tsig`).
- shape: what of a missing name its answer depends on, so that one answer serves all names of it (`fastpath`).
"""
