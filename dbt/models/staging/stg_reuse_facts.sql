SELECT
    reuse, attempt, {{ origin() }} AS origin, CAST(reused_at AS DATE) AS day, document, saved_usd, reused_at
FROM {{ source('raw', 'reuses') }}
