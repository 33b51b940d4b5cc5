const date = '\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
const time = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)';
const byte = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';

/** Formats of strings (JSON Schema validation, §7.3) as regular expressions: each allows only what is of the format. */
export const formats: Readonly<Record<string, string>> = {
  date,
  time,
  'date-time': `${date}T${time}`,
  uuid: '[\\da-f]{8}-[\\da-f]{4}-[\\da-f]{4}-[\\da-f]{4}-[\\da-f]{12}',
  ipv4: `${byte}(\\.${byte}){3}`,
  email:
    '[A-Za-z\\d][\\w+\\-]{0,30}(\\.[\\w+\\-]{1,30}){0,3}@[A-Za-z\\d]{1,30}(\\.[A-Za-z\\d]{1,30}){0,3}\\.[A-Za-z]{2,10}',
};
