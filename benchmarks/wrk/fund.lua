-- POST /v1/admin/budgets/fund: one unit of credit to the tenant's own budget.
dofile('common.lua')
post('/v1/admin/budgets/fund?tenant_id=benchmark&scope=tenant:benchmark&unit=TOKENS',
  '{"operation":"CREDIT","amount":{"unit":"TOKENS","amount":1},"idempotency_key":"@KEY@"}')
