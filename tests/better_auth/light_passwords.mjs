// Loaded before Better Auth's server in the tests, which sign up hundreds of people: scrypt as it is, at a
// thousandth of its cost. A hash then takes a quarter of a millisecond of CPU, and not a hundred.

import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";

const { scrypt } = crypto;
crypto.scrypt = (password, salt, length, options, callback) =>
  scrypt(password, salt, length, { ...options, N: 16 }, callback);
syncBuiltinESMExports(); // for those who import it by its name
