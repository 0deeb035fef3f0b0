"""Certificates that the cluster obtains and renews by itself (ACME, RFC 8555), each once for all nodes.

Words: an *authority* is what the document names in `acme`; an *account* is the cluster's, one at each authority; an
*order* asks for one certificate; a *challenge* is how the authority has a host proven, and a *proof* what it must find
then: at a token over HTTP, or in a TXT record. `keeper` is each node's part, `ordering` the leader's walk of one order,
`client` speaks to authorities (`messages`, `jws`), `records` is what the store holds.
"""
