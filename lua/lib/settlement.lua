-- settlement: may this reservation still be settled?
--
-- settlement_refusal(state, unit, expires, grace)  the code that refuses a commit or a release, or
--   nil; the times as numbers, nil where the record has none that can be read. Both count until
--   expiry + grace, inclusive.
local function settlement_refusal(state, unit, expires, grace)
  if state == 'COMMITTED' or state == 'RELEASED' then return 'RESERVATION_FINALIZED' end
  if not (given(unit) and expires and grace) then return 'CORRUPT_RESERVATION' end
  if state ~= 'ACTIVE' or now > expires + grace then return 'RESERVATION_EXPIRED' end
  return nil
end
