// The echo of ../echo.proto by grpc C++: one thread, one completion queue, its fastest interface. Prints its port.
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>

#include "echo.grpc.pb.h"

using google::protobuf::Any;

namespace {

// One call: waits to be asked, answers, ends.
class Unary {
 public:
  Unary(bench::Echo::AsyncService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), responder_(&context_) {
    service_->RequestUnary(&context_, &request_, &responder_, queue_, queue_, this);
  }

  void Proceed(bool ok) {
    if (finished_ || !ok) {
      delete this;
      return;
    }
    new Unary(service_, queue_);
    finished_ = true;
    responder_.Finish(request_, grpc::Status::OK, this);
  }

 private:
  bench::Echo::AsyncService* service_;
  grpc::ServerCompletionQueue* queue_;
  grpc::ServerContext context_;
  Any request_;
  grpc::ServerAsyncResponseWriter<Any> responder_;
  bool finished_ = false;
};

}  // namespace

int main() {
  bench::Echo::AsyncService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  auto queue = builder.AddCompletionQueue();
  auto server = builder.BuildAndStart();
  if (!server) return 1;
  std::printf("%d\n", port);
  std::fflush(stdout);
  for (int waiting = 0; waiting < 256; ++waiting) new Unary(&service, queue.get());
  void* tag;
  bool ok;
  while (queue->Next(&tag, &ok)) static_cast<Unary*>(tag)->Proceed(ok);
}
