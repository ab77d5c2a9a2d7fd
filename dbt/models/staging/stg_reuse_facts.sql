SELECT reuse, attempt, origin, day, document, saved_usd, reused_at FROM {{ source('raw', 'reuses') }}
