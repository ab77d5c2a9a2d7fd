{# All of the columns have a value, in one look at the table. #}
{% test never_null(model, columns) %}
SELECT
    {% for column in columns %}count(*) - count({{ column }}) AS {{ column }}{{ ',' if not loop.last }}
    {% endfor %}
FROM {{ model }}
HAVING false {% for column in columns %}OR count({{ column }}) < count(*) {% endfor %}
{% endtest %}
