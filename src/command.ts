/**
 * The command line. Exit statuses: 0 done, 1 the answer is no or the site failed, 2 wrong usage or configuration. What
 * serves is imported only by the commands that serve, so that the others start at once.
 */
import { Command, CommanderError } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { AdminUnreachable, askAdmin } from './admin-client.ts'
import { printConfig } from './config/print.ts'
import { type Config, ConfigError, DEFAULT_CONFIG_FILE, loadConfig } from './config.ts'

export type ExitStatus = 0 | 1 | 2

export interface CommandOutput {
  /** The command's answer. */
  readonly out: (text: string) => void
  /** What went wrong. */
  readonly err: (text: string) => void
}

interface ConfigOption {
  readonly config?: string
}

const CONFIGURATION_HELP = `
Configuration:
  A YAML file, ${DEFAULT_CONFIG_FILE} unless --config names another, and over it variables
  such as GEO_REGISTRY__STORAGE__FILESYSTEM__ROOTDIRECTORY=/var/lib/geo-registry (two underscores between the
  keys). Without a file, the variables alone. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured.

Exit status:
  0 done · 1 the answer is no, or the site failed · 2 wrong usage or configuration`

/** Runs one command to its end; for `serve` and `proxy` that is the end of the site. `args`: without node and script. */
export async function runCommand(args: readonly string[], output: CommandOutput): Promise<ExitStatus> {
  let status: ExitStatus = 0
  const program = new Command('geo-registry')
    .description(
      'One registry URL for a secondary site: pulls answered here, misses and pushes sent to the primary.',
    )
    .version(packageJson.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain a command')
    .configureHelp({ helpWidth: 110 })
    .configureOutput({ writeOut: output.out, writeErr: output.err })
    .addHelpText('after', CONFIGURATION_HELP)
    .showSuggestionAfterError()
    .exitOverride()

  const withConfig = (command: Command) =>
    command.option('-c, --config <file>', `configuration (default: ${DEFAULT_CONFIG_FILE}, if it is there)`)

  // The same today: what later roles add to `serve` is what `proxy` will lack.
  for (const [name, description] of [
    ['serve', 'run everything of this site in one process, until SIGTERM'],
    ['proxy', 'run only the /v2/ surface that clients use, until SIGTERM'],
  ] as const) {
    withConfig(program.command(name))
      .description(description)
      .action(async (options: ConfigOption) => {
        status = await serve(loadConfig({ file: options.config }).config)
      })
  }

  const look = program.command('config').description('look at the configuration without starting anything')
  withConfig(look.command('check'))
    .description('say OK, or every fault with its path and what was expected')
    .action((options: ConfigOption) => {
      loadConfig({ file: options.config })
      output.out('OK\n')
    })
  withConfig(look.command('print'))
    .description('print what takes effect and where each value comes from, secrets masked')
    .action((options: ConfigOption) => {
      const { config, effective } = loadConfig({ file: options.config })
      output.out(printConfig(effective, config.upstream.proxies))
    })

  withConfig(program.command('gc'))
    .description('have the running process remove blobs that no repository has linked for 24 h')
    .option('-n, --dry-run', 'count, and remove nothing')
    .option('--json', 'print the counts as JSON')
    .action(async (options: ConfigOption & GarbageOptions) => {
      status = await collectGarbage(loadConfig({ file: options.config }).config, options, output)
    })

  try {
    await program.parseAsync(args, { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (error instanceof ConfigError) {
      output.err(`${error.message}\n`)
      return 2
    }
    if (error instanceof AdminUnreachable) {
      output.err(`${error.message}\n`)
      return 1
    }
    throw error
  }
}

async function serve(config: Config): Promise<ExitStatus> {
  const [{ createLogger }, { createMetrics }, { createLifecycle }, { startSite }] = await Promise.all([
    import('./log.ts'),
    import('./metrics.ts'),
    import('./lifecycle.ts'),
    import('./site.ts'),
  ])
  const metrics = createMetrics({ process: true })
  const log = createLogger({ level: config.log.level, onDrop: () => metrics.logLinesDropped.inc() })
  const lifecycle = createLifecycle({ log, drainTimeoutMs: config.http.drainTimeoutMs })
  lifecycle.handleSignals()
  try {
    await startSite(config, { log, metrics, lifecycle })
  } catch (error) {
    log.error({ error }, 'the site did not start')
    await lifecycle.stop('start failed')
    return 1
  }
  const { clean } = await lifecycle.stopped
  return clean ? 0 : 1
}

interface GarbageOptions {
  readonly dryRun?: boolean
  readonly json?: boolean
}

async function collectGarbage(
  { admin }: Config,
  { dryRun = false, json = false }: GarbageOptions,
  output: CommandOutput,
): Promise<ExitStatus> {
  if (admin.listen.port === 0) {
    output.err('http.admin.addr: port 0 is another one at each start; expected the port to ask on\n')
    return 2
  }
  const answer = await askAdmin(admin, 'POST', `/gc?dryrun=${dryRun}`)
  const body = parseObject(answer.body)
  if (answer.status === 401) {
    output.err('the running process did not accept http.admin.token: expected the one it was started with\n')
    return 1
  }
  if (answer.status !== 200 || body === undefined) {
    output.err(`the running process answered ${answer.status}: ${String(body?.['error'] ?? answer.body)}\n`)
    return 1
  }
  if (json) output.out(`${JSON.stringify(body)}\n`)
  else {
    const lines = Object.entries(body).map(([name, value]) => `${inWords(name)}: ${describe(value)}\n`)
    output.out(`${dryRun ? 'Nothing was removed; this is what would be.\n' : ''}${lines.join('')}`)
  }
  return 0
}

function parseObject(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null ? { ...value } : undefined
  } catch {
    return undefined // Somebody else listens there; the caller shows what was said.
  }
}

/** `removedBlobs` → `removed blobs`. */
function inWords(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
}

function describe(value: unknown): string {
  return typeof value === 'number' ? value.toLocaleString('en-US') : JSON.stringify(value)
}
