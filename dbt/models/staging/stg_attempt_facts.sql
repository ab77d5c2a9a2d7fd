{{ config(materialized='view') }}
-- Copied and priced by the builder, ai_assets/costs/load_raw.py, while dbt starts: ten million rows take as long.
SELECT * FROM {{ source('raw', 'attempt_facts').include(database=false) }}
