// A server on the library centrifuge: tokens, a channel a user and one for everybody, both with history and recovery,
// through its Redis broker. It stands beside Tocsin in the benchmarks and does the same work.
//
//	centrifuge-peer -listen 127.0.0.1:8000 -redis 127.0.0.1:6379 -secret ...   holds connections
//	centrifuge-peer -redis 127.0.0.1:6379 -feed                                publishes what the channel `bench` brings
//	centrifuge-peer -listen ... -redis ... -kafka 127.0.0.1:9092 -topic t      does both, fed by Kafka
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"hash/fnv"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	everybody    = "all"
	historySize  = 100
	historyTTL   = time.Hour
	lanes        = 64 // publications in flight; those of one user stay in order
	everyoneItem = 0xffffffff
)

var (
	listen = flag.String("listen", "", "address to serve connections at; empty: none")
	redis  = flag.String("redis", "127.0.0.1:6379", "address of Redis")
	secret = flag.String("secret", "", "HS256 key of the tokens")
	feed   = flag.Bool("feed", false, "publish what the Redis channel `bench` brings")
	kafka  = flag.String("kafka", "", "publish what this Kafka's topic brings")
	topic  = flag.String("topic", "notifications.normal", "the topic")
)

func main() {
	flag.Parse()
	node, err := newNode()
	if err != nil {
		log.Fatal(err)
	}
	publisher := newPublisher(node)
	if *feed {
		go followRedis(publisher)
	}
	if *kafka != "" {
		go followKafka(publisher)
	}
	if *listen == "" {
		select {}
	}
	mux := http.NewServeMux()
	mux.Handle("/connection", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin:        func(*http.Request) bool { return true },
		ReadBufferSize:     512,
		UseWriteBufferPool: true,
	}))
	mux.Handle("/metrics", promhttp.Handler())
	log.Fatal(http.ListenAndServe(*listen, mux))
}

func newNode() (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.Config{
		LogLevel:   centrifuge.LogLevelError,
		LogHandler: func(e centrifuge.LogEntry) { log.Println(e.Message, e.Fields) },
	})
	if err != nil {
		return nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: *redis})
	if err != nil {
		return nil, err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return nil, err
	}
	node.SetBroker(broker)
	node.OnConnecting(authenticate)
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(e centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			if e.Channel != everybody && e.Channel != client.UserID() {
				answer(centrifuge.SubscribeReply{}, centrifuge.ErrorPermissionDenied)
				return
			}
			answer(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: true}}, nil)
		})
	})
	return node, node.Run()
}

func authenticate(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
	claims := jwt.RegisteredClaims{}
	key := func(*jwt.Token) (any, error) { return []byte(*secret), nil }
	if _, err := jwt.ParseWithClaims(e.Token, &claims, key, jwt.WithValidMethods([]string{"HS256"})); err != nil {
		return centrifuge.ConnectReply{}, centrifuge.DisconnectInvalidToken
	}
	return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{
		UserID: claims.Subject, ExpireAt: claims.ExpiresAt.Unix(),
	}}, nil
}

type publication struct {
	channel string
	data    []byte
	done    *sync.WaitGroup
}

// A publisher has many publications in flight, which the client of Redis sends in one pipeline.
type publisher []chan publication

func newPublisher(node *centrifuge.Node) publisher {
	made := make(publisher, lanes)
	for i := range made {
		made[i] = make(chan publication, 256)
		go func(lane <-chan publication) {
			for p := range lane {
				if _, err := node.Publish(p.channel, p.data, centrifuge.WithHistory(historySize, historyTTL)); err != nil {
					log.Fatal(err)
				}
				p.done.Done()
			}
		}(made[i])
	}
	return made
}

func (p publisher) publish(channel string, data []byte, done *sync.WaitGroup) {
	hash := fnv.New32a()
	hash.Write([]byte(channel))
	done.Add(1)
	p[hash.Sum32()%lanes] <- publication{channel, data, done}
}

func followRedis(p publisher) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{*redis}})
	if err != nil {
		log.Fatal(err)
	}
	var done sync.WaitGroup
	err = client.Receive(context.Background(), client.B().Subscribe().Channel("bench").Build(),
		func(message rueidis.PubSubMessage) {
			for rest := []byte(message.Message); len(rest) >= 8; {
				user, size := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:])
				channel := everybody
				if user != everyoneItem {
					channel = "u" + strconv.Itoa(int(user))
				}
				p.publish(channel, rest[8:8+size], &done)
				rest = rest[8+size:]
			}
		})
	log.Fatal(err)
}

func followKafka(p publisher) {
	client, err := kgo.NewClient(kgo.SeedBrokers(*kafka), kgo.ConsumerGroup("centrifuge-peer"), kgo.ConsumeTopics(*topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		log.Fatal(err)
	}
	for {
		fetches := client.PollFetches(context.Background())
		if err := fetches.Err(); err != nil && !errors.Is(err, context.Canceled) {
			log.Fatal(err)
		}
		var done sync.WaitGroup
		fetches.EachRecord(func(record *kgo.Record) {
			if !json.Valid(record.Value) {
				log.Println("not JSON", record.Partition, record.Offset)
				return
			}
			p.publish(string(record.Key), record.Value, &done)
		})
		done.Wait() // what is committed is in the history
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			log.Println("commit", err)
			os.Exit(1)
		}
	}
}
