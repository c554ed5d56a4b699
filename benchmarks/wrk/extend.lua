-- POST /v1/reservations/{id}/extend
dofile('common.lua')
post('/v1/reservations/@ID@/extend', '{"idempotency_key":"@KEY@","extend_by_ms":60000}')
