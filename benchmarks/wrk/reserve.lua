-- POST /v1/reservations: three scopes, a lease that outlives the run.
dofile('common.lua')
post('/v1/reservations', '{"idempotency_key":"@KEY@",' .. SUBJECT
  .. ',"estimate":{"unit":"TOKENS","amount":100},"ttl_ms":3600000}')
