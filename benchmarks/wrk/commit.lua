-- POST /v1/reservations/{id}/commit: less than was held, so that some goes back.
dofile('common.lua')
post('/v1/reservations/@ID@/commit',
  '{"idempotency_key":"@KEY@","actual":{"unit":"TOKENS","amount":80}}')
