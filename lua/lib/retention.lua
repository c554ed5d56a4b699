-- retention: how long the ledger remembers, in ms. ledger/retention.py has what Python needs of it.
--
-- IDEMPOTENCY_MS        a reserve's key, from the end of its grace; a decision's, from its making
-- DEBIT_IDEMPOTENCY_MS  a debit's key
-- FUNDING_IDEMPOTENCY_MS  a funding's key
-- KEPT_MS               the record of a reservation that is over, or of a debit
local IDEMPOTENCY_MS = 86400000
local DEBIT_IDEMPOTENCY_MS = 604800000
local FUNDING_IDEMPOTENCY_MS = 86400000
local KEPT_MS = 2592000000
