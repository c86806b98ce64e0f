const today = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const other = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** ChatKit's dates are UTC without a zone. Some browsers cannot parse their microseconds. */
export function dateOf(createdAt) {
  const moment = createdAt.replace(/(\.\d{3})\d+/, "$1");
  return new Date(/(Z|[+-]\d\d:?\d\d)$/.test(moment) ? moment : `${moment}Z`);
}

/** The local time, and also the day if it was not today. */
export function timeOf(createdAt) {
  const date = dateOf(createdAt);
  return (date.toDateString() === new Date().toDateString() ? today : other).format(date);
}

export function dayAndTimeOf(createdAt) {
  return other.format(dateOf(createdAt));
}
