-- The same GET again and again; the address says which.
dofile('common.lua')
