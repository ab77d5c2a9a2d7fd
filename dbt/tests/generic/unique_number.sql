{# No two rows have the same whole number, not negative. Of 64 numbers in a row, each has a bit: it is quick. #}
{% test unique_number(model, column_name) %}
WITH suspected AS (
    SELECT {{ column_name }} >> 6 AS block
    FROM {{ model }}
    GROUP BY ALL
    HAVING bit_count(bit_or(CAST(1 AS UBIGINT) << CAST({{ column_name }} & 63 AS UBIGINT))) < count(*)
)

SELECT {{ column_name }}, count(*) AS rows_found
FROM {{ model }}
WHERE {{ column_name }} >> 6 IN (SELECT block FROM suspected)
GROUP BY ALL
HAVING count(*) > 1
{% endtest %}
