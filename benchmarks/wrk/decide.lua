-- POST /v1/decide: the question that holds nothing.
dofile('common.lua')
post('/v1/decide', '{"idempotency_key":"@KEY@",' .. SUBJECT
  .. ',"estimate":{"unit":"TOKENS","amount":100}}')
