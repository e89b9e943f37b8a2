/** `status`, `explain`, `plan`, `ahead` and `export-check`: how things stand. Nothing here changes anything. */
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { parseRepositoryName, parseTag } from '../oci/reference.ts'
import type { RelayReport } from '../status/relay-report.ts'
import type { AheadRow, ExplanationRow, LossRow } from '../status/rows.ts'
import type { StatusReport } from '../status/status-report.ts'
import { formatBytes, formatCount } from '../status/words.ts'
import { inUrl } from './asking.ts'
import type { CommandContext, ConfigOption } from './command-context.ts'
import { follow, totalsText } from './long-work.ts'
import { relayText } from './relay-text.ts'
import { statusText } from './status-text.ts'

interface JsonOption extends ConfigOption {
  readonly json?: boolean
}

const WATCH_EVERY_MS = 2_000
/** Cursor home, and what was below it erased. */
const CLEAR_SCREEN = '\u001b[H\u001b[2J\u001b[3J'

export function addStatusCommands(program: Command, context: CommandContext): void {
  const { output, withConfig, asking, end } = context

  withConfig(program.command('status'))
    .description(
      'how this site or relay stands; exit status 1 when it is unhealthy, or the site not in step with the primary',
    )
    .option('--json', 'print the report as the API answers it')
    .option('-w, --watch', 'print it again every 2 s, until interrupted')
    .action(async (options: JsonOption & { readonly watch?: boolean }) => {
      const running = asking(options)
      for (;;) {
        const report = await running.ask<StatusReport | RelayReport>('GET', '/status')
        if (options.watch && output.terminal?.out && !options.json) output.out(CLEAR_SCREEN)
        const isRelay = 'role' in report
        if (options.json) output.out(`${JSON.stringify(report)}\n`)
        else output.out(isRelay ? relayText(report) : statusText(report))
        end(report.healthy && (isRelay || report.in_step) ? 0 : 1)
        if (!options.watch) return
        await delay(WATCH_EVERY_MS)
      }
    })

  withConfig(program.command('explain'))
    .description('where a pull by this tag would be served from now, and why')
    .argument('<repository:tag>', 'such as team/app:v1', parseImage)
    .option('--json', 'print it as the API answers it')
    .action(async ({ repository, tag }: Image, options: JsonOption) => {
      const path = `/repositories/${inUrl(repository)}/explain`
      const answer = await asking(options).ask<ExplanationRow>('GET', path, { tag })
      output.out(options.json ? `${JSON.stringify(answer)}\n` : explanationText(answer))
    })

  withConfig(program.command('plan'))
    .description('what replicating everything would take: repositories, bytes, bytes already here, time')
    .action(async (options: ConfigOption) => {
      output.out(totalsText(await follow(asking(options).stream('GET', '/plan'), { output })))
    })

  withConfig(program.command('ahead'))
    .description(
      'list the tags and digests here that the primary does not have, as after an older backup was restored there',
    )
    .action(async (options: ConfigOption) => {
      const onItem = ({ repository, tag, digest }: AheadRow) =>
        output.out(`${repository}${tag === null ? '' : `:${tag}`} ${digest}\n`)
      output.out(totalsText(await follow(asking(options).stream('GET', '/ahead'), { output, onItem })))
    })

  withConfig(program.command('export-check'))
    .description('list what a failover to this copy would lose; exit status 1 when that is anything')
    .action(async (options: ConfigOption) => {
      let lost = 0
      const onItem = (loss: LossRow) => {
        lost++
        output.out(lossText(loss))
      }
      const totals = await follow(asking(options).stream('GET', '/export-check'), { output, onItem })
      output.out(totalsText(totals))
      const allAsked = 'allRepositoriesAsked' in totals && totals.allRepositoriesAsked === true
      if (lost > 0) output.out('What is listed above would be lost.\n')
      if (!allAsked) output.out('What the primary has that was never heard of here would be lost, too.\n')
      if (lost === 0 && allAsked) output.out('Nothing would be lost.\n')
      end(lost === 0 && allAsked ? 0 : 1)
    })
}

/** `unchecked` and `unlisted` are counted as lost: what nobody can vouch for is not safe. */
function lossText({ repository, tag, kind, digestHere, digestThere, missing }: LossRow): string {
  const gap = missing && `${formatCount(missing.blobs, 'blob')} (${formatBytes(missing.bytes)}) are missing`
  const why = {
    absent: 'not here',
    older: `${digestHere} here, ${digestThere} there${gap ? `; ${gap}` : ''}`,
    incomplete: gap ?? 'not whole',
    unchecked: 'whole here, but the primary could not say whether it is the same there',
    unlisted: 'the primary could not say which tags it has',
  }[kind]
  return `${repository}${tag === null ? '' : `:${tag}`}: ${kind}: ${why}\n`
}

interface Image {
  readonly repository: string
  readonly tag: string
}

function parseImage(text: string): Image {
  const colon = text.lastIndexOf(':')
  const repository = parseRepositoryName(text.slice(0, Math.max(0, colon)))
  const tag = parseTag(text.slice(colon + 1))
  if (!repository || !tag)
    throw new InvalidArgumentError('Expected a repository and a tag, such as team/app:v1.')
  return { repository, tag }
}

function explanationText({ source, why, digestHere, digestThere, since, mode }: ExplanationRow): string {
  return `source: ${source}
why:    ${why}
here:   ${digestHere ?? 'nothing'}${since === null ? '' : `, confirmed ${since}`}
there:  ${digestThere ?? 'nothing known'}
mode:   ${mode}
`
}
