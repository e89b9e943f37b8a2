/**
 * A real NGINX in the foreground, one process without privileges of its own: for benches (static files by sendfile) and
 * for primaries that stand behind one with several server names.
 */
import { mkdir } from 'node:fs/promises'
import type { SigningKey } from './keys.ts'
import { onFreePort } from './port.ts'
import { type Program, startProgram, waitForHttp } from './process.ts'
import { tempFolder } from './temp.ts'

export interface NginxServer {
  /** Default `_`. The first server also gets requests for names that nobody has. */
  readonly name?: string
  /** Serves the files of this folder by sendfile. */
  readonly root?: string
  /** Passes everything on to this origin, unbuffered both ways, with Host and the forwarded headers kept. */
  readonly proxyTo?: string
  /** Further lines inside the server block, such as a `location`. */
  readonly extra?: string
}

export interface NginxOptions {
  readonly servers: readonly NginxServer[]
  /** Further lines inside the http block, such as a `proxy_cache_path`. */
  readonly http?: string
  /** Groups of origins that take turns, by the name that stands for a host in `proxyTo`. Default none. */
  readonly balanced?: Readonly<Record<string, readonly string[]>>
  /** Connections kept to each such group, shared by all clients; default none. */
  readonly keepalive?: number
  /** File of its access log, in batches as a busy server's is written; default none. */
  readonly accessLog?: string
  /** Speaks TLS with this key's certificate; default plain HTTP. */
  readonly tls?: SigningKey
}

export interface Nginx extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, or `https:` */
  readonly url: string
  readonly port: number
  readonly pid: number
  logs(): string
  stop(): Promise<void>
}

export async function startNginx(options: NginxOptions): Promise<Nginx> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('nginx'))
  const scheme = options.tls ? 'https' : 'http'
  await mkdir(`${folder.path}/bodies`)
  if (options.tls) {
    await folder.write('tls.crt', options.tls.certificatePem)
    await folder.write('tls.key', options.tls.privateKeyPem, 0o600)
  }

  async function launch(port: number): Promise<{ program: Program; port: number }> {
    const file = await folder.write('nginx.conf', configuration(options, folder.path, port))
    const program = await startProgram('nginx', ['-p', folder.path, '-c', file, '-e', 'stderr'])
    // Plain HTTP to a TLS port is answered 400, which is an answer too.
    await waitForHttp(program, `http://127.0.0.1:${port}/`)
    return { program, port }
  }

  const { program, port } = await onFreePort(launch)
  starting.use(program)
  const owned = starting.move()
  return {
    url: `${scheme}://127.0.0.1:${port}`,
    port,
    pid: program.pid,
    logs: program.logs,
    stop: async () => void (await program.stop()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function configuration(options: NginxOptions, folder: string, port: number): string {
  const listen = `listen 127.0.0.1:${port}${options.tls ? ' ssl' : ''}`
  const tls = options.tls ? `ssl_certificate ${folder}/tls.crt; ssl_certificate_key ${folder}/tls.key;` : ''
  const groups = Object.entries(options.balanced ?? {}).map(([name, origins]) => {
    const members = origins.map((origin) => `server ${new URL(origin).host};`)
    const kept = options.keepalive === undefined ? '' : `keepalive ${options.keepalive};`
    return `upstream ${name} { ${members.join(' ')} ${kept} }`
  })
  const servers = options.servers.map((server, index) => {
    const { name = '_', root, proxyTo, extra = '' } = server
    return `
  server {
    ${listen}${index === 0 ? ' default_server' : ''};
    server_name ${name};
    ${root === undefined ? '' : `root ${root};`}
    ${proxyTo === undefined ? '' : `location / { ${proxyPass(proxyTo)} }`}
    ${extra}
  }`
  })
  // One process (master_process off): nothing is left behind when it is killed, and a bench knows what it compares to.
  return `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log ${options.accessLog ? `${options.accessLog} combined buffer=64k flush=1s` : 'off'};
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=60s;
  client_max_body_size 0;
  client_body_temp_path ${folder}/bodies;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  default_type application/octet-stream;
  ${tls}
  ${groups.join('\n  ')}
  ${options.http ?? ''}
  ${servers.join('\n')}
}
`
}

/** As Omnibus puts NGINX in front of GitLab's registry. */
function proxyPass(origin: string): string {
  return [
    `proxy_pass ${origin};`,
    'proxy_http_version 1.1;',
    'proxy_request_buffering off;',
    'proxy_buffering off;',
    'proxy_read_timeout 900;',
    'proxy_set_header Host $http_host;',
    'proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;',
    'proxy_set_header X-Forwarded-Proto $scheme;',
    'proxy_set_header Connection "";',
  ].join(' ')
}
