-- POST /v1/events: a direct debit of three scopes.
dofile('common.lua')
post('/v1/events', '{"idempotency_key":"@KEY@",' .. SUBJECT
  .. ',"actual":{"unit":"TOKENS","amount":100}}')
