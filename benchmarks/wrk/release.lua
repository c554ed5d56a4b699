-- POST /v1/reservations/{id}/release
dofile('common.lua')
post('/v1/reservations/@ID@/release', '{"idempotency_key":"@KEY@"}')
